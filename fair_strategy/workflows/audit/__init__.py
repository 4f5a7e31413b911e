"""Audit of predictions, from any framework: who is served worse, and is the model unsure there?"""
