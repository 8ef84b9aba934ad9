// A pointer over a chart shows the figures of that window; they are read from the table below it.
"use strict";
for (const figure of document.querySelectorAll("figure")) {
  const plot = figure.querySelector(".plot[data-windows]");
  const rows = figure.querySelectorAll("details tbody tr");
  if (!plot || !rows.length) continue;
  const heads = [...figure.querySelectorAll("details thead th")].map((head) => head.textContent);
  const cross = document.createElement("div");
  const tip = document.createElement("div");
  cross.className = "cross";
  tip.className = "tip";
  const leave = () => { cross.remove(); tip.remove(); };
  const move = (event) => {
    const box = plot.getBoundingClientRect();
    const share = (event.clientX - box.left) / box.width;
    const row = rows[Math.min(rows.length - 1, Math.max(0, Math.floor(share * rows.length)))];
    const cells = [...row.cells].map((cell) => cell.textContent);
    tip.replaceChildren(...cells.map((text, i) => {
      const line = document.createElement(i ? "div" : "b");
      line.textContent = i ? `${heads[i]}: ${text}` : text;
      return line;
    }));
    cross.style.left = `${100 * share}%`;
    tip.style.left = share < 0.5 ? `calc(${100 * share}% + 10px)` : "auto";
    tip.style.right = share < 0.5 ? "auto" : `calc(${100 * (1 - share)}% + 10px)`;
    plot.append(cross, tip);
  };
  plot.addEventListener("pointermove", move);
  plot.addEventListener("pointerdown", move);
  plot.addEventListener("pointerleave", leave);
}
