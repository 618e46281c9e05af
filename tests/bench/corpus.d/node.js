// SPDX-License-Identifier: MIT
// What an editor's language server does: parse and bind a large program, and infer the types of what is looked at.
"use strict";

const path = "/usr/share/nodejs/typescript/lib/typescript.js";
const ts = require(path);

const EVERY = 64; // of the calls in the program

const program = ts.createProgram([path], { allowJs: true, noEmit: true });
const checker = program.getTypeChecker();
const types = [];
let calls = 0;

function visit(node) {
	if (ts.isCallExpression(node) && calls++ % EVERY === 0)
		types.push(checker.typeToString(checker.getTypeAtLocation(node)));
	ts.forEachChild(node, visit);
}

visit(program.getSourceFile(path));
console.log("corpus: ready");
process.stdin.on("end", () => console.log(types.length, program.getSourceFiles().length)).resume();
