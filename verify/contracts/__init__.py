"""What every module promises, whatever it computes: one function a contract."""
