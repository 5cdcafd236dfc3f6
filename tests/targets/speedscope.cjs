// Opens a pprof file with speedscope's own importer, taken out of its npm package, and writes what
// it made of it as JSON: unit, total weight, and each call path with its weight. Needs no browser.
//
//     node speedscope.cjs FOLDER-OF-THE-PACKAGE FILE.pb.gz

const { readFileSync, readdirSync } = require("fs");
const { join } = require("path");
const { gunzipSync } = require("zlib");
const vm = require("vm");

const [folder, file] = process.argv.slice(2);
const release = join(folder, "dist", "release");
const program = readdirSync(release).find((name) => /^speedscope-.*\.js$/.test(name));
const text = readFileSync(join(release, program), "utf8");

// The package is one minified program: the importer is known by what it does first, and what it
// needs is made ready by the initializer that follows it.
const name = String.raw`[\w$]+`;
const importer = new RegExp(
  `function (${name})\\(${name}\\)\\{if\\(${name}\\.byteLength===0\\)return null;` +
    `let ${name};try\\{${name}=${name}\\.perftools\\.profiles\\.Profile\\.decode`,
).exec(text);
const initializer = new RegExp(`[ ,](${name})=${name}\\(\\(\\)=>\\{"use strict";`).exec(
  text.slice(importer.index),
);
// Instead of drawing, hand the importer out.
const draws = text.lastIndexOf("console.log(`speedscope v");
const headless = `${text.slice(0, draws)}open=bytes=>(${initializer[1]}(),${importer[1]}(bytes))})();`;

// Whatever the rest asks of a browser while it loads.
const nothing = () =>
  new Proxy(function () {}, {
    get: (_, key) => (key === Symbol.toPrimitive ? () => "" : nothing()),
    apply: nothing,
    construct: nothing,
    set: () => true,
  });
const browser = {
  console, TextDecoder, TextEncoder, URL, Uint8Array, ArrayBuffer,
  document: nothing(), location: { hash: "", protocol: "file:" }, navigator: nothing(),
  localStorage: nothing(), matchMedia: nothing(), addEventListener() {}, open: null,
};
browser.window = browser.self = browser;
vm.runInNewContext(headless.replace('"use strict";', ""), browser);

const bytes = gunzipSync(readFileSync(file));
const profile = browser.open(new Uint8Array(bytes).buffer);
// Each call path that has weight of its own, root first.
const [path, stacks] = [[], []];
profile.forEachCallGrouped(
  (node) => {
    path.push(node.frame.name);
    if (node.getSelfWeight() > 0) stacks.push({ frames: [...path], weight: node.getSelfWeight() });
  },
  () => path.pop(),
);
process.stdout.write(
  JSON.stringify({ unit: profile.getWeightUnit(), total: profile.getTotalWeight(), stacks }),
);
