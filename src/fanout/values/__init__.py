"""Values shared by `core` and `wire`: frozen, without behaviour."""
