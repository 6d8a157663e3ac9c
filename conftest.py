"""Keep the suite that is shipped for users' models out of the run of the plugin's own tests."""

collect_ignore = ["robustness_tests", "benchmarks", "fixtures"]
