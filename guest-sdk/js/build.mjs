#!/usr/bin/env node
// `node build.mjs operator.js -o plugin.wasm`: makes the component, with `esbuild` and `jco`.

import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join, parse, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const OWN = dirname(fileURLToPath(import.meta.url));
const WIT = join(OWN, "wit", "v0.1");
const ROLES = ["transform", "reducer", "aggregator", "grouper", "updater"];
const INSTALL = "npm install --save-dev @bytecodealliance/jco esbuild";

function stop(text) {
  console.error(`error: ${text}`);
  process.exit(1);
}

/** A program of the project's packages, of a folder above, or on the PATH. */
function find(name) {
  const places = [];
  for (let folder = resolve("."); ; folder = dirname(folder)) {
    places.push(join(folder, "node_modules", ".bin"));
    if (folder === parse(folder).root) break;
  }
  places.push(...(process.env.PATH ?? "").split(delimiter));
  const found = places.map((place) => join(place, name)).find((file) => existsSync(file));
  if (!found) stop(`\`${name}\` is missing: install it in the project's folder with \`${INSTALL}\``);
  return found;
}

function run(program, args) {
  const ended = spawnSync(program, args, { encoding: "utf8" });
  if (ended.status !== 0) stop(`${program} failed\n${ended.stdout ?? ""}${ended.stderr ?? ended.error ?? ""}`.trim());
}

const [entry, flag, output, ...more] = process.argv.slice(2);
if (!entry || flag !== "-o" || !output) stop("usage: node build.mjs OPERATOR.js -o PLUGIN.wasm");
if (!existsSync(entry)) stop(`${entry} is not there`);
const [esbuild, jco] = [find("esbuild"), find("jco")];

const folder = mkdtempSync(join(tmpdir(), "tidemill-"));
try {
  const bundle = (from, to, more) =>
    run(esbuild, [
      from,
      "--bundle",
      "--format=esm",
      "--target=es2023",
      "--external:tidemill:*",
      `--alias:tidemill-guest=${join(OWN, "src", "index.js")}`,
      `--outfile=${to}`,
      "--log-level=warning",
      ...more,
    ]);

  // Which roles it has: the names that it exports.
  const meta = join(folder, "meta.json");
  const operator = join(folder, "operator.js");
  bundle(entry, operator, [`--metafile=${meta}`]);
  const [{ exports: names }] = Object.values(JSON.parse(readFileSync(meta, "utf8")).outputs);
  const roles = ROLES.filter((role) => names.includes(role));
  if (roles.length === 0) stop(`${entry} exports no operator: name one ${ROLES.join(", ")}, as in \`export const transform\``);

  const wit = join(folder, "wit");
  mkdirSync(wit);
  for (const file of readdirSync(WIT)) copyFileSync(join(WIT, file), join(wit, file));
  const exported = roles.map((role) => `export ${role};`).join(" ");
  const worlds = readFileSync(join(wit, "worlds.wit"), "utf8");
  writeFileSync(join(wit, "worlds.wit"), `${worlds}\nworld plugin { import diagnostics; ${exported} }\n`);

  // Bundled a second time, so that operator and host share one copy of the SDK.
  const app = join(folder, "app.js");
  writeFileSync(
    app,
    `import * as host from "tidemill:operator/diagnostics@0.1.0";
     import { diagnostics } from "tidemill-guest";
     diagnostics.connect(host);
     export { ${roles.join(", ")} } from ${JSON.stringify(resolve(entry))};`,
  );
  const bundled = join(folder, "bundled.js");
  bundle(app, bundled, ["--minify-syntax"]);

  mkdirSync(dirname(resolve(output)), { recursive: true });
  run(jco, [
    "componentize",
    bundled,
    "--wit",
    wit,
    "-n",
    "plugin",
    "--backend",
    "qjs",
    // The host calls guests one at a time.
    "--backend-qjs-disable-async",
    "-o",
    resolve(output),
    ...more,
  ]);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
