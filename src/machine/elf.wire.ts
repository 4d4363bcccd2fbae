// SPDX-License-Identifier: Apache-2.0
//
// The heads of an ELF file that tell where a section of a running program lies: System V ABI,
// chapter 4 "Object Files" (ELF Header, Sections), elf.h of glibc 2.36. 64-bit little-endian only
// (x86-64, arm64). No logic.

import { bytes, struct, u16, u32, u64 } from "#base/wire.ts";

/** ASCII DEL "ELF", class 64 bits, data little-endian. */
export const ELF_IDENT = [0x7f, 0x45, 0x4c, 0x46, 2, 1] as const;
/** e_type of a program that is loaded where it says. */
export const ELF_TYPE_EXECUTABLE = 2;

/** Elf64_Ehdr. */
export const ELF_HEADER = struct("Elf64_Ehdr", 64, "little", {
  ident: bytes(0, 16), // ELF_IDENT and more
  type: u16(16),
  machine: u16(18),
  version: u32(20),
  entry: u64(24),
  programOffset: u64(32),
  sectionOffset: u64(40), // of the section table in the file, bytes
  flags: u32(48),
  headerBytes: u16(52),
  programBytes: u16(54),
  programCount: u16(56),
  sectionBytes: u16(58), // of one entry
  sectionCount: u16(60),
  namesIndex: u16(62), // the section that holds the names
});

/** Elf64_Shdr. */
export const ELF_SECTION = struct("Elf64_Shdr", 64, "little", {
  name: u32(0), // offset in the section of names
  type: u32(4),
  flags: u64(8),
  address: u64(16), // where it is loaded
  offset: u64(24), // in the file, bytes
  lengthBytes: u64(32),
  link: u32(40),
  extra: u32(44),
  alignment: u64(48),
  entryBytes: u64(56),
});
