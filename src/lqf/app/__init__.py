"""LQF for people with a folder of photographs: what the sub-commands fit, audit, forget … do."""
