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
    if (inner.length === 0 || (inner.length === 1 && node.children.length > 1 && node !== root)) {
      if (node !== root) labels.push({ node, text: node.path });
      return;
    }
    for (const child of inner) visit(child);
  };
  visit(root);
  return labels.length > 0 ? labels : spaced(root, Math.ceil(least / pixelsPerRow));
}

export const isInside = (name: string, module: string): boolean =>
  module === '' || name === module || name.startsWith(`${module}.`);
