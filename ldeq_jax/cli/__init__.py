"""The console command `ldeq`. A module parses one command's options; the library does the work."""
