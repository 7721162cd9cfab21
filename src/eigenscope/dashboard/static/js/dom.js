// Building the page without HTML in strings.

/**
 * One element. `on` holds listeners, `text` the text; true and false switch an attribute; null leaves it out.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, unknown>|null} [attributes]
 * @param {...(Node|string|null|undefined)} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function h(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") listen(node, /** @type {Record<string, EventListener>} */ (value));
    else if (name === "text") node.textContent = String(value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children) if (child !== null && child !== undefined) node.append(child);
  return node;
}

/** @param {HTMLElement} node @param {Record<string, EventListener>} listeners */
function listen(node, listeners) {
  for (const [event, listener] of Object.entries(listeners)) node.addEventListener(event, listener);
}

/**
 * Write a text only where it differs: screen readers and the layout are left alone otherwise.
 * @param {Node} node
 * @param {string} text
 */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** @param {Element} node @param {string} name @param {string|null} value null takes the attribute away */
export function setAttribute(node, name, value) {
  if (value === null) node.removeAttribute(name);
  else if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

/**
 * The element with this id, which index.html holds.
 * @param {string} id
 * @returns {HTMLElement}
 */
export function byId(id) {
  const node = document.getElementById(id);
  if (!node) throw new Error(`index.html has no element #${id}`);
  return node;
}

/**
 * True when any of the things given differs from the last call: the cheap guard in front of expensive drawing.
 * @returns {(...things: unknown[]) => boolean}
 */
export function changes() {
  /** @type {unknown[]|null} */
  let before = null;
  return (...things) => {
    const same = before !== null && before.length === things.length && things.every((t, i) => t === before?.[i]);
    before = things;
    return !same;
  };
}
