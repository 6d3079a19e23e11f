<?php
if (!in_array('variable', fanout_tables(fanout_database()), true)) {
    fanout_end(['installed' => false]);
}
