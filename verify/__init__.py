"""The witness: does an artifact compute what the original computes?"""
