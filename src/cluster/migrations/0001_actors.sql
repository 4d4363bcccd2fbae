ALTER TABLE `events` ADD `actor` text;--> statement-breakpoint
CREATE INDEX `events_by_actor` ON `events` (`actor`,`number`);
