// Bundle the page into the folder given as argument, and write the licences of what went into the bundle.
// Run by hatch_build.py in a copy of this folder, after `npm ci`.
import { copyFile, mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { build } from "esbuild";

const out = process.argv[2];
if (!out) throw new Error("usage: node build.mjs FOLDER");

const { metafile } = await build({
  entryPoints: { app: "src/main.tsx" },
  outdir: out,
  bundle: true,
  minify: true,
  format: "iife",
  target: ["es2022"],
  jsx: "automatic",
  jsxImportSource: "preact",
  legalComments: "none", // THIRD-PARTY.txt has them whole
  charset: "utf8",
  metafile: true,
  logLevel: "warning",
});

/** The packages of which at least one byte is in the bundle, by the bundler's own account. */
function bundled(outputs) {
  const names = new Set();
  for (const { inputs } of Object.values(outputs)) {
    for (const [file, { bytesInOutput }] of Object.entries(inputs)) {
      const name = /^node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(file)?.[1];
      if (name && bytesInOutput > 0) names.add(name);
    }
  }
  return [...names].sort();
}

/** The licence of one package, in its own words; a package without one must not be bundled. */
async function licence(name) {
  const folder = join("node_modules", name);
  const { version, license } = JSON.parse(await readFile(join(folder, "package.json"), "utf8"));
  const file = (await readdir(folder)).find((entry) => /^licen[cs]e/i.test(entry));
  if (!file) throw new Error(`${name} ${version} has no licence file: it cannot be bundled`);
  const words = (await readFile(join(folder, file), "utf8")).replaceAll("\r\n", "\n").trim();
  return `${name} ${version} (${license})\n\n${words}\n`;
}

const licences = await Promise.all(bundled(metafile.outputs).map(licence));
const rule = `\n${"-".repeat(80)}\n\n`;
await mkdir(out, { recursive: true });
await writeFile(join(out, "THIRD-PARTY.txt"), ["Parts of app.js and app.css\n", ...licences].join(rule));
await Promise.all(["index.html", "icon.svg"].map((name) => copyFile(name, join(out, name))));
