// SPDX-License-Identifier: MIT
// What an editor's language server does: parse, bind and check a large program, and keep all of it.
"use strict";

const path = "/usr/share/nodejs/typescript/lib/typescript.js";
const ts = require(path);

const program = ts.createProgram([path], { allowJs: true, checkJs: true, noEmit: true });
const problems = program.getSemanticDiagnostics().length;

console.log("corpus: ready");
process.stdin.on("end", () => console.log(problems)).resume();
