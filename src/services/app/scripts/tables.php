<?php
fanout_end(['tables' => fanout_tables(fanout_database())]);
