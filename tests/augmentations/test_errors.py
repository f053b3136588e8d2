from augmentations.errors import InputError, unknown_name


def test_says_thing_rule_and_remedy():
    error = InputError("aspect=0", "must be > 0", "try (0.3, 3.3)")
    assert str(error) == "aspect=0: must be > 0; try (0.3, 3.3)"
    assert isinstance(error, ValueError)


def test_unknown_name_suggests_or_lists():
    assert "did you mean cutout?" in str(unknown_name("augmentation", "cutuot", ["cutout", "rotation"]))
    assert "known: cutout, rotation" in str(unknown_name("augmentation", "xyz", ["cutout", "rotation"]))
