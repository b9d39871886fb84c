"""Memory: which past turns matter now?"""
