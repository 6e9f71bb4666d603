// How the page looks, as its user chose: before anything is drawn, so that nothing flashes. Nothing is kept that was not chosen.

(() => {
  const root = document.documentElement;
  const CHOICES = ["theme", "density"];

  function chosen(name) {
    try {
      return localStorage.getItem(name) ?? "";
    } catch { // not everybody lets a page keep anything
      return "";
    }
  }

  function choose(name, value) {
    root.dataset[name] = value;
    try {
      if (value) localStorage.setItem(name, value);
      else localStorage.removeItem(name);
    } catch {
      // then it holds until the page is left
    }
  }

  for (const name of CHOICES) root.dataset[name] = chosen(name);
  document.addEventListener("DOMContentLoaded", () => {
    for (const name of CHOICES) {
      const select = /** @type {HTMLSelectElement} */ (document.getElementById(name));
      select.value = root.dataset[name] ?? "";
      select.addEventListener("change", () => choose(name, select.value));
    }
  });
})();
