// Each formula becomes MathML in place of its LaTeX; one that Temml does not understand stays as it is.
document.addEventListener("DOMContentLoaded", () => {
  for (const place of document.querySelectorAll(".math")) {
    temml.render(place.textContent, place, { displayMode: place.tagName === "DIV", throwOnError: true });
  }
});
