"use strict";
const form = document.getElementById("filter");
if (form) {
  const cards = [...document.querySelectorAll(".card")];
  const boxes = [...form.querySelectorAll("input")];
  const checked = (name) => new Set(boxes.filter((box) => box.name === name && box.checked).map((box) => box.value));
  const show = () => {
    const kinds = checked("kind");
    const types = checked("type");
    let shown = 0;
    for (const card of cards) {
      // The kind and one of the types of the same error must be checked.
      card.hidden = ![...card.querySelectorAll("[data-kind]")].some(
        ({ dataset }) => kinds.has(dataset.kind) && dataset.types.split(" ").some((type) => types.has(type)),
      );
      shown += card.hidden ? 0 : 1;
    }
    document.getElementById("count").textContent = `${shown} of ${cards.length} sentences shown`;
  };
  form.addEventListener("change", show);
  form.addEventListener("click", ({ target }) => {
    if (target.type !== "button") return;
    for (const box of target.closest("fieldset").querySelectorAll("input")) box.checked = target.value === "all";
    show();
  });
  form.hidden = false;
  show();
}
// Nothing can be opened on paper.
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
});
