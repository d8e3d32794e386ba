"""Pipeline steps for multi-view, multi-frame camera data. Import the module you need."""
