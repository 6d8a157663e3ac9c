"""What every computation shares: batch sizes, threads, a quiet terminal."""
