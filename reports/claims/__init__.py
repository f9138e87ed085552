"""The paper's claims: as data, judged, displayed."""
