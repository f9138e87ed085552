"""Regressions over the history, for asv (`asv.conf.json`): the same measuring core, every number the lower the better."""
