<?php
if (!is_file('autoload.php')) {
    fanout_end(['error' => 'There is no autoload.php, which composer makes']);
}
$fanout_loader = require $fanout['docroot'] . '/autoload.php';
$fanout_request = \Symfony\Component\HttpFoundation\Request::createFromGlobals();
$fanout_kernel = \Drupal\Core\DrupalKernel::createFromRequest($fanout_request, $fanout_loader, 'prod');
$fanout_kernel->boot();
$fanout_kernel->preHandle($fanout_request);
restore_error_handler();
set_exception_handler(function ($error) {
    fanout_answer(['error' => get_class($error) . ': ' . $error->getMessage()]);
    exit(1);
});
