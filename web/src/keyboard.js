/** Keys that press the page's buttons. */

const press = (id) => () => {
  const element = document.getElementById(id);
  if (!element.disabled) element.click();
};
const pick = (name, value) => () =>
  document.querySelector(`input[name=${name}][value="${value}"]`).click();

const KEYS = {
  " ": press("pause"),
  c: press("camera"),
  o: press("open"),
  s: nextSample,
  b: pick("show", "both"),
  r: pick("show", "rwr"),
  a: pick("show", "alone"),
  1: pick("strength", "0.5"),
  2: pick("strength", "1"),
  3: pick("strength", "2"),
  z: press("close-up"),
  d: press("download"),
};

function nextSample() {
  const select = document.getElementById("sample");
  if (select.disabled) return;
  const names = [...select.options].map(({ value }) => value).filter(Boolean);
  select.value = names[(names.indexOf(select.value) + 1) % names.length];
  select.dispatchEvent(new Event("change"));
}

/** Listens to the keys, unless the visitor has switched them off, or types. */
export function listenToKeys() {
  addEventListener("keydown", (event) => {
    const { target } = event;
    const typing = target.closest?.("select, input:not([type=radio], [type=checkbox])");
    const meant = document.getElementById("keys").checked && !typing;
    if (!meant || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === " " && target.closest?.("button, input, summary, a")) return;
    const action = KEYS[event.key.toLowerCase()];
    if (!action) return;
    event.preventDefault();
    action();
  });
}
