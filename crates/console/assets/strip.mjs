// Reads nhsuk-frontend's style sheet and writes it without anything that would be fetched: its
// @font-face rules, @import and every url(). The browser then asks nobody but the console itself.
import { readFileSync, writeFileSync } from "node:fs";

const [source, target, version] = process.argv.slice(2);
const css = readFileSync(source, "utf8")
  .replace(/@font-face\s*\{[^}]*\}/g, "")
  .replace(/@import[^;]*;/g, "")
  .replace(/url\((?:"[^"]*"|'[^']*'|[^)]*)\)/g, "none")
  .replace(/\/\*# sourceMappingURL=[^*]*\*\//g, "");
if (/url\(|@import|@font-face|https?:\/\//.test(css)) {
  console.error(`${source}: something that would be fetched is left`);
  process.exit(1);
}
writeFileSync(target, `/*! nhsuk-frontend ${version}, MIT licence, Crown copyright (NHS England) */\n${css}`);
