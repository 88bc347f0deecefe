#!/usr/bin/env node
// Runs the binary of this platform, and ends as it ends: the file that DBELAY_BINARY names, else that which build.sh put into vendor/ of this
// package. Nothing is ever downloaded.
"use strict";

const { spawn } = require("node:child_process");
const fs = require("node:fs");
const { constants } = require("node:os");
const path = require("node:path");

const platform = `${process.platform}-${process.arch}`;
const file = process.platform === "win32" ? "dbelay.exe" : "dbelay";

function find() {
  const named = process.env.DBELAY_BINARY;
  if (named) return named;
  const vendored = path.join(__dirname, "..", "vendor", platform, file);
  return fs.existsSync(vendored) ? vendored : null;
}

function fail(message, hint) {
  process.stderr.write(`error: ${message}\n\nhint: ${hint}\n`);
  process.exit(3);
}

const binary = find();
if (!binary) {
  fail(
    `this package brings no dbelay for ${platform}`,
    "run `build.sh` of the package's source on this platform; or build dbelay with `cargo install` and name it in DBELAY_BINARY",
  );
}

// An interruption at the terminal reaches both, and dbelay decides what becomes of it: this process only has to outlive it. What is sent to this
// process alone is passed on.
let child;
const isAtTerminal = process.stdin.isTTY || process.stderr.isTTY;
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"]) {
  try {
    process.on(signal, () => {
      if (signal !== "SIGINT" || !isAtTerminal) child?.kill(signal);
    });
  } catch {
    // Not every system has every signal.
  }
}

// Begun only now: a signal must not come between.
child = spawn(binary, process.argv.slice(2), { stdio: "inherit" });
child.on("error", (error) => {
  fail(`\`${binary}\` cannot be started: ${error.message}`, "DBELAY_BINARY names another one");
});
child.on("exit", (code, signal) => {
  if (signal === null) process.exit(code);
  // Dies as the binary died, so that whoever waits can tell.
  process.removeAllListeners(signal);
  process.kill(process.pid, signal);
  setTimeout(() => process.exit(128 + (constants.signals[signal] ?? 0)), 200);
});
