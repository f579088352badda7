"""``make demo``: the main job of Hotspare on real guests, told step by step."""
