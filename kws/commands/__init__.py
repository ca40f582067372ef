"""The commands of `kws`, one file each: settings in, objects assembled, results printed."""
