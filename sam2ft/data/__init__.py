"""From raw images to training samples: reading files, the prepared store, and what a data loader yields."""
