// Says so if one of the page's scripts could not be had, as when the network changes while it loads: then nothing else here works.

addEventListener("error", (event) => {
  if (!(event.target instanceof HTMLScriptElement)) return;
  const tell = () => {
    /** @type {HTMLElement} */ (document.getElementById("connection")).dataset.state = "offline";
    /** @type {HTMLElement} */ (document.getElementById("state")).textContent = "failed to load";
    const button = /** @type {HTMLButtonElement} */ (document.getElementById("now"));
    button.textContent = "Reload";
    button.hidden = false;
    button.addEventListener("click", () => location.reload());
  };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", tell);
  else tell();
}, true); // it does not bubble
