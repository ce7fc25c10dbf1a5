// In the head of every demo below the home page: a link back, and what "Try it" presses.
(() => {
  const ready = (selector) => {
    const found = document.querySelector(selector);
    return found && !found.disabled && found.offsetParent !== null ? found : null;
  };
  const when = (selector, then) => {
    const found = ready(selector);
    if (found) then(found);
    else setTimeout(() => when(selector, then), 100);
  };
  when(".mw-header", (header) => {
    const link = document.createElement("a");
    link.href = "/";
    link.textContent = "All apps";
    link.className = "mw-home";
    header.prepend(link);
  });
  if (!new URLSearchParams(location.search).has("try")) return;
  const press = ([step, ...rest]) => {
    if (!step) return;
    when(step.replace("? ", ""), (found) => {
      if (!step.startsWith("? ")) found.click();
      setTimeout(() => press(rest), 300);
    });
  };
  press(multiwaySteps);
})();
