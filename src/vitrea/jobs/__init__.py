"""One module per job-type: parameters and run()."""
