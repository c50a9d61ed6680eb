// Names of parameters as a tree of modules, and which of its nodes have room for a
// label beside the heat map.

export interface ModuleNode {
  path: string; // Of the module, or of the parameter.
  label: string; // Its last part.
  first: number; // Rows, from the top: [first, last).
  last: number;
  children: ModuleNode[]; // None: a parameter.
}

// Of names in an order in which modules stand together.
export function treeOf(names: string[]): ModuleNode {
  const root: ModuleNode = { path: '', label: '', first: 0, last: names.length, children: [] };
  const stack: ModuleNode[] = [root];
  names.forEach((name, row) => {
    const parts = name.split('.');
    let depth = 1;
    while (depth < stack.length && depth < parts.length && stack[depth]!.label === parts[depth - 1]) ++depth;
    stack.length = depth;
    for (; depth <= parts.length; ++depth) {
      const node: ModuleNode = {
        path: parts.slice(0, depth).join('.'), label: parts[depth - 1]!, first: row, last: row + 1, children: [],
      };
      stack[depth - 1]!.children.push(node);
      stack.push(node);
    }
    for (const node of stack) node.last = row + 1;
  });
  return root;
}

export interface Label {
  node: ModuleNode;
  text: string;
}

// Of many that are all too small: every so-manyth, at least `apart` rows from the last.
function spaced(root: ModuleNode, apart: number): Label[] {
  const labels: Label[] = [];
  let next = 0;
  for (const node of root.children) {
    if (node.first < next) continue;
    labels.push({ node, text: node.path });
    next = node.first + apart;
  }
  return labels;
}

// The deepest nodes that are at least `least` pixels high.
export function labelsOf(root: ModuleNode, pixelsPerRow: number, least: number): Label[] {
  const labels: Label[] = [];
  const high = (node: ModuleNode) => (node.last - node.first) * pixelsPerRow >= least;
  const visit = (node: ModuleNode) => {
    const inner = node.children.filter(high);
    const rows = node.last - node.first;
    if (inner.length > 0) inner.forEach(visit);
    else if (node === root || (node.children.length > 2 && rows * pixelsPerRow >= 3 * least)) {
      labels.push(...spaced(node, Math.ceil(least / pixelsPerRow)));
    } else labels.push({ node, text: node.path });
  };
  visit(root);
  return labels;
}

// What lies at a row, as deep in the tree as the labels beside it.
export function nodeAt(root: ModuleNode, labels: Label[], row: number): ModuleNode | undefined {
  const near = labels.reduce<Label | undefined>((best, label) =>
    best === undefined || Math.abs(label.node.first - row) < Math.abs(best.node.first - row) ? label : best, undefined);
  const depth = near?.node.path.split('.').length ?? 0;
  let node: ModuleNode | undefined = root;
  for (let i = 0; i < depth && node !== undefined && node.children.length > 0; ++i) {
    node = node.children.find((child) => child.first <= row && row < child.last);
  }
  return node === root ? undefined : node;
}

export const isInside = (name: string, module: string): boolean =>
  module === '' || name === module || name.startsWith(`${module}.`);
