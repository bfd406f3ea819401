from lvsm_pytorch.text import counted


def test_one_has_no_plural():
    assert [counted(number, 'view') for number in (0, 1, 2)] == ['0 views', '1 view', '2 views']
