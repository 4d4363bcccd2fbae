// SPDX-License-Identifier: Apache-2.0
//
// Files that the bundler embeds into the executable: `with { type: "file" }` gives the path of the
// embedded file, `with { type: "text" }` its content.

declare module "*.zst" {
  const path: string;
  export default path;
}

declare module "*.sql" {
  const text: string;
  export default text;
}

declare module "*.css" {
  const text: string;
  export default text;
}

declare module "*.client.js" {
  const text: string;
  export default text;
}
