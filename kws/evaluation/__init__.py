"""From streams to score tracks, events and operating points."""
