// What the user chose is kept in the browser, if it lets the page keep anything; else it holds until the page is left.

export function keep(name, value) {
  try {
    localStorage.setItem(name, value);
  } catch {
    // as said above
  }
}

/** @returns {string | null} */
export function kept(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}
