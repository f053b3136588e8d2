// Paper can't be unfolded: everything is open while it prints.
addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details:not([open])")) part.dataset.folded = part.open = true;
});
addEventListener("afterprint", () => {
  for (const part of document.querySelectorAll("details[data-folded]")) {
    part.open = false;
    delete part.dataset.folded;
  }
});
