"""Every patient in turn as the test patient: what each method does on somebody whom it did not see."""
