"""The sections of docs/performance.md, one module each: `section()` gives its lines, none where nothing was measured."""
