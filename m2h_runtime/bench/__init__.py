"""`m2h-bench`: how fast an engine and the loop around it are on this machine, and how sure that is."""
