<?php
if (!in_array('key_value', fanout_tables(fanout_database()), true)) {
    fanout_end(['installed' => false]);
}
