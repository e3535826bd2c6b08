"""The site file, the site policy, and the definitions that come with fedminet."""
