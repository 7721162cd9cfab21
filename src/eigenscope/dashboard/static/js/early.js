// A classic script, run before the first paint: the reader's own choice of theme never flashes the other one.
(() => {
  const choice = localStorage.getItem("eigenscope-theme");
  if (choice === "light" || choice === "dark") document.documentElement.dataset.theme = choice;
})();
