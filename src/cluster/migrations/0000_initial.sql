CREATE TABLE `catalog` (
	`id` integer PRIMARY KEY NOT NULL,
	`cluster_uuid` text NOT NULL,
	`generation` integer NOT NULL,
	`revision` integer NOT NULL,
	`taken_at_ms` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `units` (
	`number` integer PRIMARY KEY NOT NULL,
	`id` text NOT NULL,
	`name` text NOT NULL,
	`role` text NOT NULL,
	`pool` text,
	`state` text NOT NULL,
	`alive` integer NOT NULL,
	`version` text NOT NULL,
	`record` text NOT NULL
);
--> statement-breakpoint
CREATE TABLE `disks` (
	`number` integer PRIMARY KEY NOT NULL,
	`uuid` text NOT NULL,
	`unit` integer NOT NULL,
	`path` text NOT NULL,
	`size_bytes` integer NOT NULL,
	`state` text NOT NULL,
	`record` text NOT NULL
);
--> statement-breakpoint
CREATE INDEX `disks_by_unit` ON `disks` (`unit`);
--> statement-breakpoint
CREATE TABLE `volumes` (
	`number` integer PRIMARY KEY NOT NULL,
	`uuid` text NOT NULL,
	`name` text NOT NULL,
	`size_bytes` integer NOT NULL,
	`protection` text NOT NULL,
	`pool` text NOT NULL,
	`state` text NOT NULL,
	`record` text NOT NULL
);
--> statement-breakpoint
CREATE TABLE `slices` (
	`number` integer PRIMARY KEY NOT NULL,
	`volume` integer NOT NULL,
	`position` integer NOT NULL,
	`size_bytes` integer NOT NULL,
	`copies` integer NOT NULL,
	`epoch` integer NOT NULL,
	`head` integer NOT NULL,
	`record` text NOT NULL
);
--> statement-breakpoint
CREATE INDEX `slices_by_volume` ON `slices` (`volume`,`position`);
--> statement-breakpoint
CREATE TABLE `members` (
	`slice` integer NOT NULL,
	`disk` integer NOT NULL,
	`state` text NOT NULL,
	PRIMARY KEY(`slice`, `disk`)
);
--> statement-breakpoint
CREATE INDEX `members_by_disk` ON `members` (`disk`);
--> statement-breakpoint
CREATE TABLE `events` (
	`number` integer PRIMARY KEY NOT NULL,
	`at_ms` integer NOT NULL,
	`kind` text NOT NULL,
	`severity` text NOT NULL,
	`sentence` text NOT NULL,
	`unit` integer,
	`volume` integer
);
