"""The operations of superlearner: every module here is one group, and every `Operation` in it is registered."""
