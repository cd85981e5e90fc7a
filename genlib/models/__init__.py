"""The models: a family a module, and the blocks, samplers and decoders that they share."""
