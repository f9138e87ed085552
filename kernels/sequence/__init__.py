"""A whole sequence of SAM or SDNC as one native call forward and one backward."""
