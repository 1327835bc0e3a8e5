"""From prompts to masks: encoding and decoding slices, propagation through a volume, composition into one label map."""
